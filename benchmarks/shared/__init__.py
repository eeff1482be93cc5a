"""Code without flags that several benchmarks, or their tests, import."""
