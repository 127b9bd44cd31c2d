// File: key_source.h
//
// Moved: include config/key_reloader.h. This one goes with 0.3.

#ifndef KEYROTATOR_KEY_SOURCE_H_
#define KEYROTATOR_KEY_SOURCE_H_

#include "keyrotator/config/key_reloader.h"  // IWYU pragma: export

#endif  // KEYROTATOR_KEY_SOURCE_H_
