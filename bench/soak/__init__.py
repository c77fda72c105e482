"""Twenty minutes of mixed traffic and churn; what grows meanwhile."""
