# `cmake --install build --prefix X`: the program with its manual page and completions (component program), the
# library for other programs (development), and the CUDA backend (cuda), which both of them open.
include(CMakePackageConfigHelpers)
set(GPT2TRAIN_ZSH_DIR ${CMAKE_INSTALL_DATADIR}/zsh/site-functions CACHE STRING "Where zsh looks for completions")

# ---- the program ----------------------------------------------------------------------------------
set(pages ${PROJECT_BINARY_DIR}/share)
file(MAKE_DIRECTORY ${pages})
add_custom_command(OUTPUT ${pages}/gpt2train.1.gz ${pages}/gpt2train ${pages}/_gpt2train ${pages}/gpt2train.fish
  COMMAND gpt2train manual | gzip -9n > ${pages}/gpt2train.1.gz
  COMMAND gpt2train completion bash > ${pages}/gpt2train
  COMMAND gpt2train completion zsh > ${pages}/_gpt2train
  COMMAND gpt2train completion fish > ${pages}/gpt2train.fish
  DEPENDS gpt2train COMMENT "Writing the manual page and completions" VERBATIM)
add_custom_target(gpt2train_pages ALL DEPENDS ${pages}/gpt2train.1.gz)

install(TARGETS gpt2train RUNTIME COMPONENT program)
install(FILES ${pages}/gpt2train.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
install(FILES ${pages}/gpt2train DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT program)
install(FILES ${pages}/_gpt2train DESTINATION ${GPT2TRAIN_ZSH_DIR} COMPONENT program)
install(FILES ${pages}/gpt2train.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT program)
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/gpt2train COMPONENT program)
install(FILES README.md ARCHITECTURE.md docs/json.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
install(FILES LICENSE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT licence)

# ---- the CUDA backend -----------------------------------------------------------------------------
if(TARGET gpt2train_cuda)
  install(TARGETS gpt2train_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/gpt2train COMPONENT cuda)
endif()

# ---- the library ----------------------------------------------------------------------------------
set(library gpt2train_options gpt2train_core gpt2train_memory gpt2train_cuda_scratch gpt2train_kernels gpt2train_ops
  gpt2train_model gpt2train_data gpt2train_tokenizer gpt2train_train gpt2train_config gpt2train_run)
foreach(name IN LISTS library)
  string(REPLACE gpt2train_ "" layer ${name})
  set_target_properties(${name} PROPERTIES EXPORT_NAME ${layer})
endforeach()
set_target_properties(gpt2train_run PROPERTIES EXPORT_NAME gpt2train)  # all that others link by name

# The headers include each other as they lie here, so all are below a directory of their own.
set(headers ${CMAKE_INSTALL_INCLUDEDIR}/gpt2train)
target_include_directories(gpt2train_options INTERFACE $<INSTALL_INTERFACE:${headers}>)
install(TARGETS ${library} EXPORT gpt2train ARCHIVE COMPONENT development)
install(DIRECTORY include/gpt2train DESTINATION ${headers} COMPONENT development PATTERN nanogpt EXCLUDE)  # the program alone has that layer
install(DIRECTORY kernels DESTINATION ${headers} COMPONENT development FILES_MATCHING PATTERN "*.h"
  PATTERN cpu EXCLUDE PATTERN cuda EXCLUDE)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/gpt2train)
set(backend_dir ${CMAKE_INSTALL_LIBDIR}/gpt2train)
configure_package_config_file(cmake/gpt2trainConfig.cmake.in gpt2trainConfig.cmake INSTALL_DESTINATION ${package}
  PATH_VARS backend_dir)
write_basic_package_version_file(gpt2trainConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT gpt2train NAMESPACE gpt2train:: FILE gpt2trainTargets.cmake DESTINATION ${package} COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/gpt2trainConfig.cmake ${PROJECT_BINARY_DIR}/gpt2trainConfigVersion.cmake
  DESTINATION ${package} COMPONENT development)
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DATADIR}/gpt2train COMPONENT development)
