# SGLang with DeepEP under Dynamo. SGLang's own images contain CUDA, DeepEP and its NVSHMEM; Dynamo comes on top.
#   SGLANG_IMAGE, SGLANG_IMAGE_TAG  what to start from
#   DYNAMO_REF                    a release (its wheels), or a commit or branch for the Python part
#   DYNAMO_RUNTIME                release of the compiled part where DYNAMO_REF is none
#   DEEPEP_REF                    a commit to build DeepEP from; empty: the one in the base image
ARG SGLANG_IMAGE=lmsysorg/sglang
ARG SGLANG_IMAGE_TAG=v0.5.21
FROM ${SGLANG_IMAGE}:${SGLANG_IMAGE_TAG}
ARG DYNAMO_REF=1.6.1
ARG DYNAMO_RUNTIME=1.6.1
ARG DEEPEP_REF=
# --no-deps: Dynamo pins versions of what SGLang's image brings, and names one package that fetches itself elsewhere.
RUN set -eu; \
    case "$DYNAMO_REF" in \
      [0-9]*.[0-9]*) dynamo="ai-dynamo==$DYNAMO_REF"; runtime="$DYNAMO_REF" ;; \
      *) dynamo="ai-dynamo @ https://github.com/ai-dynamo/dynamo/archive/$DYNAMO_REF.tar.gz"; runtime="$DYNAMO_RUNTIME" ;; \
    esac; \
    python3 -m pip install --no-cache-dir --no-deps "$dynamo" "ai-dynamo-runtime==$runtime"; \
    python3 -m pip install --no-cache-dir "kubernetes>=32.0.1,<33" "prometheus-client>=0.23.1,<1" "msgspec>=0.19" "zstandard<1" uvloop nixl
RUN set -eu; \
    if [ -n "$DEEPEP_REF" ]; then \
      python3 -m pip install --no-cache-dir --no-deps --no-build-isolation --force-reinstall \
        "deep_ep @ https://github.com/deepseek-ai/DeepEP/archive/$DEEPEP_REF.tar.gz"; \
    fi
