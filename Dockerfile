# The image of fairlane: producer, worker and monitor alike; the argument says which.
#
# Two stages: the first one has pip and the sources, the second one an interpreter and one virtual environment.
# Every distribution is pinned by its hash (`make requirements`), so a build is the same build tomorrow.
# Your own tasks go on top of it:
#
#     FROM fairlane
#     COPY shop/ /app/shop/
#     CMD ["worker", "shop.tasks:app", "--workers", "10"]

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The dependencies change more rarely than the sources: they are a layer of their own. The environment has no pip in
# it: the one of this stage fills it from outside.
COPY requirements.txt requirements-build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/fairlane \
 && pip --python /opt/fairlane/bin/python install --require-hashes -r requirements.txt \
 && pip install --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY topics/ topics/
COPY producer/ producer/
COPY consumer/ consumer/
COPY monitor/ monitor/
COPY app/ app/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && pip --python /opt/fairlane/bin/python install --no-deps /dist/*.whl

FROM python:3.13-slim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fairlane" \
      org.opencontainers.image.description="A distributed task queue on Apache Kafka: priority lanes, fair scheduling, retry tiers, exactly one outcome" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/fairlane/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/fairlane /opt/fairlane
# `fairlane worker module:app` imports from the current directory: an image made on top of this one puts its code here.
WORKDIR /app
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
ENTRYPOINT ["fairlane"]
CMD ["--help"]
