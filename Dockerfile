# distroless has no version tags. A release pins the digest: --build-arg BASE_IMAGE=…@sha256:…
ARG GO_IMAGE=golang:1.26.8
ARG BASE_IMAGE=gcr.io/distroless/static-debian13:nonroot

# Runs on the builder's own architecture and cross-compiles, so it needs no emulation.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
# Use the image's toolchain; go.mod must not make Go download another one.
ENV CGO_ENABLED=0 GOTOOLCHAIN=local
# For networks that can reach modules only through a mirror. Empty means Go's default.
ARG GOPROXY
# Copy these files first, so that modules are downloaded again only when the module graph changes.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN mkdir /state
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
# For --state.file: a new named volume on this directory has the same owner.
COPY --from=build --chown=65532:65532 /state /var/lib/crs_exporter
# Numeric, because Kubernetes' runAsNonRoot cannot resolve user names.
USER 65532:65532
EXPOSE 10991
# The image has no shell and no curl, so the exporter checks itself at its default --web.listen-address.
# If you change that flag, set the same flag here or disable the check.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/bin/crs_exporter", "--healthcheck"]
ENTRYPOINT ["/bin/crs_exporter"]
