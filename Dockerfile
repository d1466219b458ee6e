# mgnet_jax on CPUs. Build it and train the embedded example, its run kept in the folder runs:
#
#   docker build -t mgnet_jax .
#   docker run --rm -v "$PWD/runs:/mgnet/runs" mgnet_jax
#
# Other commands and data go after it:
#
#   docker run --rm -v "$PWD/runs:/mgnet/runs" -v FOLDER:/data:ro mgnet_jax --config=cifar10:small --config.data.dir=/data
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE constraints.txt ./
COPY mgnet_jax mgnet_jax
COPY configs configs
RUN pip install --no-cache-dir -c constraints.txt '.[images]'

RUN useradd --create-home --uid 1000 trainer && install -d -o trainer /mgnet
USER 1000
WORKDIR /mgnet
ENTRYPOINT ["mgnet"]
