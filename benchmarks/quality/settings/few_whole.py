"""few_images without patch scores and palette, as it was fourth."""

import few_images

recipe = few_images.differing(palette=0, patch_scores=False)
