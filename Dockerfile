# distroless has no tags by version: a release pins it by digest, --build-arg BASE_IMAGE=…@sha256:…
ARG GO_IMAGE=golang:1.26.8
ARG BASE_IMAGE=gcr.io/distroless/static-debian13:nonroot

# Builds on the builder's own architecture and cross-compiles: no emulation.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
# The image decides the toolchain; go.mod may not fetch another one behind its back.
ENV CGO_ENABLED=0 GOTOOLCHAIN=local
# For networks that reach modules through a mirror only; empty is Go's default.
ARG GOPROXY
# Alone, so that modules are fetched again only when the module graph changes.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG VERSION=unknown
ARG REVISION=unknown
ARG BRANCH=unknown
ARG BUILD_USER=unknown
ARG BUILD_DATE=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    v=github.com/prometheus/common/version; \
    GOOS=$TARGETOS GOARCH=$TARGETARCH GOARM=${TARGETVARIANT#v} \
    go build -trimpath -ldflags "-s -w \
      -X $v.Version=$VERSION -X $v.Revision=$REVISION -X $v.Branch=$BRANCH \
      -X $v.BuildUser=$BUILD_USER -X $v.BuildDate=$BUILD_DATE" \
      -o /out/crs_exporter .

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
ARG BUILD_DATE=unknown
LABEL org.opencontainers.image.title="crs_exporter" \
      org.opencontainers.image.description="Prometheus exporter for the tasks of Tencent Cloud CRS (Redis) instances: backups, restores, resizes." \
      org.opencontainers.image.url="https://github.com/crs-exporter/crs_exporter" \
      org.opencontainers.image.source="https://github.com/crs-exporter/crs_exporter" \
      org.opencontainers.image.documentation="https://github.com/crs-exporter/crs_exporter/blob/main/README.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$BUILD_DATE" \
      org.opencontainers.image.base.name="$BASE_IMAGE"
COPY LICENSE /usr/share/doc/crs_exporter/LICENSE
COPY --from=build /out/crs_exporter /bin/crs_exporter
# A number, because Kubernetes' runAsNonRoot cannot look names up.
USER 65532:65532
EXPOSE 10991
# There is no shell and no curl: the exporter asks itself, at its default --web.listen-address.
# Whoever changes that flag gives the same one here, or switches the check off.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/bin/crs_exporter", "--healthcheck"]
ENTRYPOINT ["/bin/crs_exporter"]
