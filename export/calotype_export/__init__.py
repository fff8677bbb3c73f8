"""From a Stable Diffusion checkpoint to a bundle: torch and diffusers live here, and nowhere in `calotype`."""
