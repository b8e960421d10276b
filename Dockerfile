# restorepix in a container; the default weights are inside.
#
#   docker build -t restorepix .                                   for CPUs
#   docker build -t restorepix:cuda --build-arg TORCH=cu126 .      for NVIDIA GPUs
#   docker run --rm --network none -v "$PWD:/data" restorepix fix photos/ --mask masks/
#   docker run --rm --gpus all --network none -v "$PWD:/data" restorepix:cuda fix photos/ -m masks/
FROM python:3.12-slim AS build
WORKDIR /src
RUN pip install --no-cache-dir "hatchling==1.27.0"
COPY pyproject.toml README.md LICENSE ./
COPY restorepix restorepix
COPY weights weights
RUN python -m hatchling build -t wheel -d /dist

FROM python:3.12-slim
# cpu, or the CUDA that PyTorch's wheels are built for; those wheels carry CUDA themselves.
ARG TORCH=cpu
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir -c /tmp/constraints.txt \
        --index-url "https://download.pytorch.org/whl/${TORCH}" torch
COPY --from=build /dist /tmp/dist
RUN pip install --no-cache-dir -c /tmp/constraints.txt /tmp/dist/*.whl \
    && rm -r /tmp/dist /tmp/constraints.txt \
    && useradd --create-home --uid 1000 restorepix
USER 1000
WORKDIR /data
ENTRYPOINT ["restorepix"]
CMD ["--help"]
