# syntax=docker/dockerfile:1
# The notification service. Build from the repository's root:
#   docker build -f deployments/docker/notification.Dockerfile -t exesdb/notification .
FROM golang:1.26 AS build
ENV CGO_ENABLED=0 GOWORK=off
WORKDIR /src
# What changes least comes first, so that a change of code does not fetch the modules again.
COPY contracts/go.mod contracts/go.sum contracts/
COPY shared/go.mod shared/go.sum shared/
COPY services/notification/go.mod services/notification/go.sum services/notification/
RUN --mount=type=cache,target=/go/pkg/mod cd services/notification && go mod download
COPY contracts contracts
COPY shared shared
COPY services/notification services/notification
ARG VERSION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    cd services/notification && go build -trimpath \
    -ldflags "-s -w -X github.com/exesdb/exesdb/shared/version.Version=$VERSION" -o /out/exesdb-notification .

FROM gcr.io/distroless/static:nonroot
# The image has no shell and no client; a health check needs one program that can ask /healthz.
COPY --from=docker.io/library/busybox:1.37.0-musl /bin/busybox /bin/wget
COPY --from=build /out/exesdb-notification /usr/local/bin/exesdb-notification
ENV EXESDB_ADMIN_ADDR=0.0.0.0:8081
EXPOSE 8081
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/exesdb-notification"]
