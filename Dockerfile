# Two images: `--target postrider` for production, `--target standalone` with
# Temporal inside, whose first build takes several minutes. Both are static, run as
# nobody, and hold a binary and the certificate authorities only.
FROM golang:1.26.9-bookworm AS source
WORKDIR /src
COPY . .
ARG VERSION=dev
RUN mkdir -p /image/data /image/tmp && chown -R 65532:65532 /image

FROM source AS build-postrider
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    make build-postrider VERSION=${VERSION}

FROM source AS build-standalone
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    make build-standalone VERSION=${VERSION}

FROM scratch AS standalone
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# A volume takes over the owner of the folder that it covers.
COPY --from=source --chown=65532:65532 /image/ /
COPY --from=build-standalone /src/bin/postrider-standalone /postrider-standalone
USER 65532:65532
VOLUME /data
EXPOSE 8080 9464 7233 8233
# Loopback inside a container is nobody's: what the container publishes decides who
# reaches the ports.
ENV POSTRIDER_DATA_DIR=/data \
    POSTRIDER_LISTEN=0.0.0.0:8080 \
    POSTRIDER_METRICS_LISTEN=0.0.0.0:9464 \
    POSTRIDER_TEMPORAL_LISTEN=0.0.0.0:7233 \
    POSTRIDER_TEMPORAL_UI_LISTEN=0.0.0.0:8233
ENTRYPOINT ["/postrider-standalone"]

FROM scratch AS postrider
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build-postrider /src/bin/postrider /postrider
USER 65532:65532
EXPOSE 8080 9464
ENV POSTRIDER_LISTEN=0.0.0.0:8080 \
    POSTRIDER_METRICS_LISTEN=0.0.0.0:9464 \
    POSTRIDER_LOG_FORMAT=json
ENTRYPOINT ["/postrider"]
CMD ["serve"]
