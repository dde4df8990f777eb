# SGLang with DeepEP under Dynamo. SGLang's own images contain CUDA, DeepEP and its NVSHMEM; Dynamo comes on top.
#   SGLANG_IMAGE, SGLANG_IMAGE_TAG  what to start from
#   DYNAMO_REF                    a release (its wheels), or a commit or branch for the Python part
#   DYNAMO_RUNTIME                release of the compiled part where DYNAMO_REF is none
#   DEEPEP_REF                    a commit to build DeepEP from; empty: the one in the base image
#   CUDA_ARCH_LIST                GPU architectures of that build, e.g. "9.0;10.0"; empty: DeepEP's own default
#   MAX_JOBS                      compilers of that build at once: each takes some 4 GiB
ARG SGLANG_IMAGE=lmsysorg/sglang
ARG SGLANG_IMAGE_TAG=v0.5.21
FROM ${SGLANG_IMAGE}:${SGLANG_IMAGE_TAG}
ARG DYNAMO_REF=1.6.1
ARG DYNAMO_RUNTIME=1.6.1
ARG DEEPEP_REF=
ARG CUDA_ARCH_LIST=
ARG MAX_JOBS=2
COPY dynamo_requirements.py /opt/wideloop/dynamo_requirements.py
# --no-deps: Dynamo pins versions of what SGLang's image brings, and names one package that fetches itself elsewhere.
# What else it needs is its own list; what SGLang was built against stays as it is.
RUN set -eu; \
    case "$DYNAMO_REF" in \
      [0-9]*.[0-9]*) dynamo="ai-dynamo==$DYNAMO_REF"; runtime="$DYNAMO_REF" ;; \
      *) dynamo="ai-dynamo @ https://github.com/ai-dynamo/dynamo/archive/$DYNAMO_REF.tar.gz"; runtime="$DYNAMO_RUNTIME" ;; \
    esac; \
    python3 -m pip install --no-cache-dir packaging; \
    python3 -m pip install --no-cache-dir --no-deps "$dynamo" "ai-dynamo-runtime==$runtime"; \
    python3 /opt/wideloop/dynamo_requirements.py > /opt/wideloop/requirements.txt; \
    python3 -m pip freeze | grep -iE '^(torch|triton|numpy|transformers|sglang|sgl|flashinfer|nvidia)[a-z0-9_-]*==' \
      > /opt/wideloop/constraints.txt || true; \
    python3 -m pip install --no-cache-dir -c /opt/wideloop/constraints.txt -r /opt/wideloop/requirements.txt
RUN set -eu; \
    if [ -n "$DEEPEP_REF" ]; then \
      if [ -n "$CUDA_ARCH_LIST" ]; then export TORCH_CUDA_ARCH_LIST="$CUDA_ARCH_LIST"; fi; \
      MAX_JOBS="$MAX_JOBS" python3 -m pip install --no-cache-dir --no-deps --no-build-isolation --force-reinstall \
        "deep_ep @ https://github.com/deepseek-ai/DeepEP/archive/$DEEPEP_REF.tar.gz"; \
    fi
# Fails here, not on taken GPUs, when a module that needs no GPU is missing.
RUN python3 -c "import redis, blake3, msgspec, zmq, aiohttp, kubernetes, prometheus_client, zstandard, uvloop"
