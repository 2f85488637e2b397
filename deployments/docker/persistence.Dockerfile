# syntax=docker/dockerfile:1
# The persistence service. Build from the repository's root:
#   docker build -f deployments/docker/persistence.Dockerfile -t exesdb/persistence .
FROM golang:1.26 AS build
ENV CGO_ENABLED=0 GOWORK=off
WORKDIR /src
# What changes least comes first, so that a change of code does not fetch the modules again.
COPY contracts/go.mod contracts/go.sum contracts/
COPY shared/go.mod shared/go.sum shared/
COPY services/persistence/go.mod services/persistence/go.sum services/persistence/
RUN --mount=type=cache,target=/go/pkg/mod cd services/persistence && go mod download
COPY contracts contracts
COPY shared shared
COPY services/persistence services/persistence
ARG VERSION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    cd services/persistence && go build -trimpath \
    -ldflags "-s -w -X github.com/exesdb/exesdb/shared/version.Version=$VERSION" -o /out/exesdb-persistence .
# A new volume takes its owner from the folder that it covers.
RUN mkdir /out/data

FROM gcr.io/distroless/static:nonroot
# The image has no shell and no client; a health check needs one program that can ask /healthz.
COPY --from=docker.io/library/busybox:1.37.0-musl /bin/busybox /bin/wget
COPY --from=build /out/exesdb-persistence /usr/local/bin/exesdb-persistence
COPY --from=build --chown=65532:65532 /out/data /var/lib/exesdb
ENV EXESDB_DATA_DIR=/var/lib/exesdb
VOLUME /var/lib/exesdb
ENV EXESDB_ADMIN_ADDR=0.0.0.0:8081
EXPOSE 8081
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/exesdb-persistence"]
