# syntax=docker/dockerfile:1
# The gateway service. Build from the repository's root:
#   docker build -f deployments/docker/gateway.Dockerfile -t exesdb/gateway .
FROM golang:1.26 AS build
ENV CGO_ENABLED=0 GOWORK=off
WORKDIR /src
# What changes least comes first, so that a change of code does not fetch the modules again.
COPY contracts/go.mod contracts/go.sum contracts/
COPY shared/go.mod shared/go.sum shared/
COPY services/gateway/go.mod services/gateway/go.sum services/gateway/
RUN --mount=type=cache,target=/go/pkg/mod cd services/gateway && go mod download
COPY contracts contracts
COPY shared shared
COPY services/gateway services/gateway
ARG VERSION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    cd services/gateway && go build -trimpath \
    -ldflags "-s -w -X github.com/exesdb/exesdb/shared/version.Version=$VERSION" -o /out/exesdb-gateway .

FROM gcr.io/distroless/static:nonroot
# The image has no shell and no client; a health check needs one program that can ask /healthz.
COPY --from=docker.io/library/busybox:1.37.0-musl /bin/busybox /bin/wget
COPY --from=build /out/exesdb-gateway /usr/local/bin/exesdb-gateway
ENV EXESDB_HTTP_ADDR=0.0.0.0:8080 EXESDB_GRPC_ADDR=0.0.0.0:9090 EXESDB_ADMIN_ADDR=0.0.0.0:8081
EXPOSE 8080 9090 8081
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/exesdb-gateway"]
