// File: any_selection.h
//
// Moved: include config/any_selection.h. This one goes with 0.3.

#ifndef KEYROTATOR_ANY_SELECTION_H_
#define KEYROTATOR_ANY_SELECTION_H_

#include "keyrotator/config/any_selection.h"  // IWYU pragma: export

#endif  // KEYROTATOR_ANY_SELECTION_H_
