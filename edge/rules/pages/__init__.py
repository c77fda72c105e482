"""Error pages: templates, which of them a reply gets, and how all of them look."""
