"""The choice of sources: which are asked, in which order, and what their failures mean. Pure."""
