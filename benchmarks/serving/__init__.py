"""How leptonai serves beside other model servers: the parts of benchmarks/serving.py."""
