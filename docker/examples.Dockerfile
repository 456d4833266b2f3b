# The example programs with Python and pika. BASE is any image that has Python 3, and pip unless it has pika already.
ARG BASE=python:3.13-slim
FROM ${BASE}

RUN python3 -c "import pika" 2>/dev/null || pip install --no-cache-dir 'pika>=1.3,<2'
COPY *.py /examples/
WORKDIR /examples
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["python3"]
