"""Which sources are asked, in which order, and what their failures mean."""
