"""styx beside other proxies, case by case, as a page: `python -m bench report`."""
