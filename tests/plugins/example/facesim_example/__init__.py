"""A part of each kind that facesim takes from other packages, as `docs/extending.md` walks through them."""
