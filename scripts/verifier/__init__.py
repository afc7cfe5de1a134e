"""How the built-in verifier is made: data, model, training, calibration, export."""
