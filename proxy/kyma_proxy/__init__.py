"""kyma-proxy: a thin, low-latency gateway for large language models."""

__version__ = "0.2.0"
