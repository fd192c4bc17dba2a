"""A provider that costs nothing, for the demo and for trying the gateway. Its answers say that no model ran."""
