"""What tests need: a store in memory, the store conformance kit, a pytest plugin."""
