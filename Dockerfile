# The server of a bundle; docs/deploy.md says more.
#   docker build -t fpclass .                                       for CPUs
#   docker build -t fpclass:cuda --build-arg EXTRAS=serve,gpu .     for NVIDIA's GPUs; the wheels bring CUDA, the host the driver
#   docker build -t fpclass:page --build-arg EXTRAS=page .          with the page at /
#   docker run -p 8000:8000 -v "$PWD/runs/photos/bundle:/bundle:ro" fpclass
FROM python:3.11-slim-bookworm AS build
ARG EXTRAS=serve
WORKDIR /source
COPY . .
RUN sh docker/install.sh /opt/fpclass "$EXTRAS"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/fpclass /opt/fpclass
COPY docker/serve.sh docker/healthy.py /opt/
RUN useradd --system --uid 10001 --create-home fpclass
USER 10001
WORKDIR /home/fpclass
ENV PATH=/opt/fpclass/bin:$PATH \
    PORT=8000 \
    MALLOC_ARENA_MAX=2 \
    XLA_PYTHON_CLIENT_PREALLOCATE=false
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "/opt/healthy.py"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sh", "/opt/serve.sh"]
