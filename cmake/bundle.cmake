# `cmake --install build --component bundle --strip --prefix DIR`: the programs and, beside them,
# every library they need but for glibc, the compiler's runtime and CUDA, which the machine that they
# are carried to must have.
set(programs gpt2train)
foreach(name gpt2train_cuda gpu_tests)
  if(TARGET ${name})
    list(APPEND programs ${name})
  endif()
endforeach()
# A library's own needs are found beside the program as well only by this older kind of path.
foreach(name IN LISTS programs)
  target_link_options(${name} PRIVATE -Wl,--disable-new-dtags)
endforeach()
set_target_properties(${programs} PROPERTIES INSTALL_RPATH "$ORIGIN" INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS ${programs} RUNTIME_DEPENDENCY_SET needed
  RUNTIME DESTINATION . COMPONENT bundle EXCLUDE_FROM_ALL
  LIBRARY DESTINATION . COMPONENT bundle EXCLUDE_FROM_ALL)
install(RUNTIME_DEPENDENCY_SET needed
  PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|stdc\\+\\+|gcc_s)\\.so" "^lib(cuda|cublas|cudnn|nvidia)"
  LIBRARY DESTINATION . COMPONENT bundle EXCLUDE_FROM_ALL)
