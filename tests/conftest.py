"""What all tests share: the Hypothesis profile.

No deadline, because two workers on a busy machine make any single example slow; fixed examples where CI is set, so that
a red build is red again.
"""

import os

from hypothesis import settings

settings.register_profile("cadenza", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("cadenza")
