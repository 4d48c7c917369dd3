# The BIDS App as an image:
#
#   docker build -t bids_unires .                          for NVIDIA GPUs and CPUs
#   docker build -t bids_unires:cpu --build-arg TORCH=cpu .    for CPUs only, much smaller
#
# BASE_IMAGE takes a digest too: --build-arg BASE_IMAGE=docker.io/library/python@sha256:...
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG TORCH=cuda

FROM ${BASE_IMAGE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/bids_unires
ENV PATH=/opt/bids_unires/bin:$PATH
WORKDIR /source

# Dependencies before the program: a change of the program then leaves their layer as it is.
COPY pyproject.toml requirements.lock ./
ARG TORCH
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN if [ "$TORCH" = cpu ]; then \
      pip install --constraint requirements.lock --extra-index-url "$TORCH_CPU_INDEX" torch; \
    elif [ "$TORCH" != cuda ]; then \
      echo "TORCH is cuda or cpu, not $TORCH" >&2; exit 1; \
    fi \
    && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["dicom"], sep="\n")' \
      | pip install --constraint requirements.lock --requirement /dev/stdin
COPY LICENSE README.md version ./
COPY bids_unires bids_unires
RUN pip install --no-deps .

# The template of --align and --common-output; empty where TemplateFlow cannot be reached, and
# the head that is packaged with the program serves. The client's placeholders are of no use.
ARG TEMPLATE=MNI152NLin2009cAsym
ENV TEMPLATEFLOW_HOME=/opt/bids_unires/templateflow
RUN mkdir "$TEMPLATEFLOW_HOME" \
    && if [ -n "$TEMPLATE" ]; then \
      python -c 'import sys; from bids_unires.registration.templateflow import download; print(download(sys.argv[1]))' "$TEMPLATE" \
      && find "$TEMPLATEFLOW_HOME" -type f -empty -delete; \
    fi

# Without network, compiler and home the program finds its kernels here.
ENV WARP_CACHE_PATH=/opt/bids_unires/kernels
WORKDIR /
RUN python -m bids_unires.kernels.ahead
COPY containers/leave_behind.sh /source/
RUN bash /source/leave_behind.sh /opt/bids_unires

# Last, so that it lists what stays.
COPY containers/bill_of_materials.py /source/
RUN python -P /source/bill_of_materials.py > /opt/bids_unires/sbom.cdx.json \
    && chmod -R a+rX /opt/bids_unires

FROM ${BASE_IMAGE}
COPY --from=build /opt/bids_unires /opt/bids_unires
ARG BASE_IMAGE
ARG TORCH
ARG VERSION=
ARG REVISION=
ARG SOURCE=
ARG CREATED=
ENV PATH=/opt/bids_unires/bin:$PATH \
    LC_ALL=C.UTF-8 \
    PYTHONNOUSERSITE=1 \
    TEMPLATEFLOW_HOME=/opt/bids_unires/templateflow \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    WARP_CACHE_PATH=/opt/bids_unires/kernels \
    BIDS_UNIRES_CONTAINER_TYPE=docker \
    BIDS_UNIRES_CONTAINER_TAG=bids_unires:${VERSION:-latest}
LABEL org.opencontainers.image.title="bids_unires" \
      org.opencontainers.image.description="BIDS App for multi-contrast super-resolution of thick-slice brain scans" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.authors="The bids_unires developers" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      bids_unires.torch="${TORCH}"
ENTRYPOINT ["bids_unires"]
