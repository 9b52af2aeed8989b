# One image for every part of the lab but the broker. Plain on purpose: any builder takes it.
FROM python:3.13-slim AS build
WORKDIR /source
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check build hatchling
COPY . .
RUN /opt/build/bin/python -m build --wheel --no-isolation --outdir /dist
RUN python -m venv /opt/sealbus \
 && /opt/sealbus/bin/pip install --no-cache-dir --disable-pip-version-check "$(ls /dist/*.whl)[lab]"

FROM python:3.13-slim
ARG UID=1000
COPY --from=build /opt/sealbus /opt/sealbus
# Volumes take over the owner and mode of what lies here: nothing runs as root, and keys are private.
RUN cd / && for folder in lab lab/roots lab/operators lab/clients lab/accounts lab/layers lab/logs \
        lab/evidence lab/wire lab/broker lab/run; do mkdir -m 700 "$folder"; done \
 && chown -R "$UID:$UID" /lab
ENV PATH=/opt/sealbus/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER $UID:$UID
WORKDIR /tmp
ENTRYPOINT ["sealbus"]
CMD ["--help"]
