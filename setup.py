"""What pyproject.toml cannot say: `configs/`, on top of the repository, is installed as `fpclass.configs`.

There no folder `configs` of a user's can hide it, and nobody else's name is taken.
"""

from setuptools import find_packages, setup

CONFIGS = find_packages(include=["configs", "configs.*"])

setup(
    packages=[*find_packages(include=["fpclass", "fpclass.*"]), *(f"fpclass.{name}" for name in CONFIGS)],
    package_dir={"fpclass.configs": "configs"},
)
