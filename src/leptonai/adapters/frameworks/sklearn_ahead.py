"""What scikit-learn looks up at its first fit in a process, loaded ahead: which plugins of narwhals are installed, 30 ms."""

from narwhals.stable.v2.dependencies import is_into_dataframe

is_into_dataframe(None)  # it looks once
