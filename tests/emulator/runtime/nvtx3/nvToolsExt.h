// Stands in for NVTX where the backend is compiled for the emulator: the calls that the backend
// makes. Names and meanings are those of NVTX 3.
#pragma once

int nvtxRangePushA(const char* name);
int nvtxRangePop();
