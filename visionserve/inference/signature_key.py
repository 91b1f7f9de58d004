DEFAULT_SIGNATURE = "serving_default"
