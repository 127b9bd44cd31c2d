// File: keyrotator.h
//
// All of layer 1: the rotator and what plugs into it. What knows HTTP answers
// is in openai/, what sends requests in http/, what serves tests in
// testing/.

#ifndef KEYROTATOR_KEYROTATOR_H_
#define KEYROTATOR_KEYROTATOR_H_

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/cooldown.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/key_status.h"
#include "keyrotator/lease.h"
#include "keyrotator/limits.h"
#include "keyrotator/pick_hint.h"
#include "keyrotator/report.h"
#include "keyrotator/rotator_options.h"
#include "keyrotator/selection.h"
#include "keyrotator/wait.h"

#endif  // KEYROTATOR_KEYROTATOR_H_
