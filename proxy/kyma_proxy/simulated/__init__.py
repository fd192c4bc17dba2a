"""A provider that costs nothing, for the demo and for trying the gateway: it says plainly that no model ran."""
