# Serve a bundle over HTTP, without torch. Put `bundle/`, made by `allencv export`, into the
# root of a clone:
#
#     docker build -t pets .
#     docker run --rm -p 8000:8000 --memory 512m pets
FROM python:3.13-slim

WORKDIR /app
COPY requirements-serve.txt setup.py pyproject.toml README.md LICENSE ./
COPY allencv allencv
COPY training_config training_config
# --no-deps: the requirements are complete, and the packages for training are left out.
RUN pip install --no-cache-dir --no-deps -r requirements-serve.txt . && rm -r allencv training_config
COPY bundle bundle

USER nobody
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
CMD ["allencv", "serve", "bundle", "--host", "0.0.0.0", "--port", "8000"]
