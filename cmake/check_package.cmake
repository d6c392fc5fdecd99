if(CPACK_GPT2TRAIN_MARCH STREQUAL "native")
  message(FATAL_ERROR "this build is for the processor that it was made on (GPT2TRAIN_MARCH=native): use the preset `package`")
endif()
