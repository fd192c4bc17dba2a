"""This file describes the public API in OpenAPI 3.1."""

from __future__ import annotations

