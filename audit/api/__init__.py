"""The public functions, on tensors and on configurations. Imported lazily by `audit` itself."""
