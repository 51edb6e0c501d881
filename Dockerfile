# Postrider standalone in a container. The first build compiles Temporal and takes
# several minutes.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    make build-standalone VERSION=${VERSION}
# A volume takes over the owner of the folder that it covers.
RUN mkdir -p /image/data /image/tmp && chown -R 65532:65532 /image

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /image/ /
COPY --from=build /src/bin/postrider-standalone /postrider-standalone
USER 65532:65532
VOLUME /data
EXPOSE 8080 9464 8233
# Loopback inside a container is nobody's: what the container publishes decides who
# reaches the ports.
ENV POSTRIDER_DATA_DIR=/data \
    POSTRIDER_LISTEN=0.0.0.0:8080 \
    POSTRIDER_METRICS_LISTEN=0.0.0.0:9464 \
    POSTRIDER_TEMPORAL_UI_LISTEN=0.0.0.0:8233
ENTRYPOINT ["/postrider-standalone"]
