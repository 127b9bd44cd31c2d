// error: (deleted function|deleted constructor).*keyrotator::Lease
// A lease is one request in flight; its copy would end it twice.

#include "keyrotator/keyrotator.h"

void Use(const keyrotator::Lease& lease) { keyrotator::Lease copy = lease; }
