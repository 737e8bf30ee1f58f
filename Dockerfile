# A bundle behind HTTP, without torch. Next to this file lie a clone of the repository and `bundle/`,
# which `allencv export` has written:
#
#     docker build -t pets .
#     docker run --rm -p 8000:8000 --memory 512m pets
FROM python:3.13-slim

WORKDIR /app
COPY requirements-serve.txt setup.py pyproject.toml README.md ./
COPY allencv allencv
# The requirements are complete; what only training needs is not installed.
RUN pip install --no-cache-dir --no-deps -r requirements-serve.txt . && rm -r allencv
COPY bundle bundle

USER nobody
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
CMD ["allencv", "serve", "bundle", "--host", "0.0.0.0", "--port", "8000"]
