"""few_images without patch scores and palette, as it was fourth."""

import few_images

recipe = few_images.shaded(patch_scores=False)
