"""HTTP/2: frames and their budgets, requests from header lists, responses to header lists."""
