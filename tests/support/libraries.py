"""Imported for what it does: libraries that set environment variables when they are first imported do so now, while tests
are collected, and not during the test that happens to be first."""

import sklearn.ensemble  # noqa: F401
import tensorboardX  # noqa: F401
import torch._inductor.runtime.cache_dir_utils  # noqa: F401
