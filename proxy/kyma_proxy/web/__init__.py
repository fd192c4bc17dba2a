"""The control plane: an ordinary aiohttp application for everything that is not relayed."""
