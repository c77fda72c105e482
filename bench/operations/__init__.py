"""Whatever operators do and whatever dies: which requests are lost."""
