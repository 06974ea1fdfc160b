/* pytorch.h - what the two PyTorch containers (zip and legacy) share: storages that have bytes, and the way from the pickled
 * object to named tensors. */
#ifndef STRAND_CORE_WEIGHTS_PYTORCH_H
#define STRAND_CORE_WEIGHTS_PYTORCH_H

#include "pickle.h"
#include "reader.h"

/* Picks the branch of the object that holds the tensors and adds them to `w`, nested names joined by '.'. Storages must have
 * their bytes. `budget`, the pickle's bytes, bounds the work. */
strand_status pytorch_flatten(weights *w, const pickle_value *object, uint64_t budget, error *e);

#endif
