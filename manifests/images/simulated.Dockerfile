# The simulated engine: Dynamo's frontend and mocker in their locked environment, and our models of memory and time.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
COPY requirements.txt /opt/wideloop/requirements.txt
# The lock leaves out what Dynamo asks for and does not use here.
RUN python3 -m pip install --no-cache-dir --no-deps -r /opt/wideloop/requirements.txt
COPY project /opt/wideloop/project
ENV PYTHONPATH=/opt/wideloop/project PYTHONUNBUFFERED=1
