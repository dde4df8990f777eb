# Load generators, model downloads and the pod that serves files: the locked environment of the benchmark client.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
COPY requirements.txt /opt/wideloop/requirements.txt
RUN python3 -m pip install --no-cache-dir --no-deps -r /opt/wideloop/requirements.txt
ENV PYTHONUNBUFFERED=1
