"""The profile: a recipe's blocks for one cut, aligned on one spine of clients, scaled and joined into one matrix."""

from kit.profile.build import (
    BlockRow,
    Profile,
    apply_profile,
    build_profile,
    plan_block,
    profile_code,
    profile_fingerprint,
    run_block,
    spine,
)

__all__ = [
    "BlockRow",
    "Profile",
    "apply_profile",
    "build_profile",
    "plan_block",
    "profile_code",
    "profile_fingerprint",
    "run_block",
    "spine",
]
